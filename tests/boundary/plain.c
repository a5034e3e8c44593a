// A library that has nothing to do with Lacuna, and one that others may need.
int helper(void) { return 1; }
