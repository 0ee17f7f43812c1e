"""Methods that remember what messages leave out: EF, EF21, PowerSGD and gradient coding."""
