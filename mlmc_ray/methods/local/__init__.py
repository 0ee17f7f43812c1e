"""Methods with several local steps between two exchanges: local SGD, Scaffnew and TAMUNA."""
