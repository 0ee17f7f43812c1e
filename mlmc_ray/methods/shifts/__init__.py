"""Methods that compress differences to something learned: DIANA, ADIANA, EF-BV and SVRG."""
