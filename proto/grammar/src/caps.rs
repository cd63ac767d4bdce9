//! Every bound on an input, in one table: bytes, counts, compile cost, time.
