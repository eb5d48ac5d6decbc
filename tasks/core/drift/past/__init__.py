"""The reference over time: blocks, the pattern they follow, and what a window is fairly compared with."""
