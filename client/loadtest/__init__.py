"""Many live streams against one server, and the latencies that they measure."""
