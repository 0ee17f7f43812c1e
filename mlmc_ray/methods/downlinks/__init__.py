"""Methods that compress what the server sends: EF21-P, EF21-BC, MARINA-P, M3 and DoCoFL."""
