"""ProcessBench: is the first wrong step of a response found, by a threshold chosen on another subset?"""
