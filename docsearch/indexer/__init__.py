"""The offline half: files in, committed pages out."""
