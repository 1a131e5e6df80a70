"""Releases, promotions and rollbacks as commits, and the rules that keep a revert safe."""
