"""Instructions of recorded steps: made of calls of ops, joined, and walked in one compiled call."""
