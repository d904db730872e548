"""Learning to read pixels: the network of `eyes`, its targets, and the run that trains it (docs/eyes.md)."""
