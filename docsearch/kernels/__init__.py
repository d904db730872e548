"""MaxSim over packed pages: the definition, and faster ways to the same numbers."""

from docsearch.kernels.cpu import maxsim_cpu as maxsim
from docsearch.kernels.reference import maxsim_reference

__all__ = ["maxsim", "maxsim_reference"]
