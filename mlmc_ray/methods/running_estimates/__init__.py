"""Methods whose server moves an estimate of the gradient by changes: MARINA and DASHA."""
