"""The online half: a query in, scored pages out."""
