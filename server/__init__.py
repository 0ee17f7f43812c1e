"""The parameter server: parameters, optimizer, a method's server half; its Ray actor."""
