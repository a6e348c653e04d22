// A gradient's number as it is clipped: what is infinite becomes NaN, and NaN stays: steps by it are to be seen.

FUNCTION real clipped(real g, real limit) { return g - g != 0 ? real(NAN) : g > limit ? limit : g < -limit ? -limit : g; }
