"""The sample documents: one module for each, and the pen they are all drawn with."""
