"""The rules, by subject. Each takes an overlay or the tree, and yields what is wrong and how to mend it."""
