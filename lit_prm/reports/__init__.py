"""Tables, figures and pages: best-of-N, ProcessBench, run comparison, the viewer."""
