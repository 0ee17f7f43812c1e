"""Commands of ``mlmc-ray``, one module each; the work is done by other modules of ``launch``."""
