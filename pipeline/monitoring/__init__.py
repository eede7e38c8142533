"""How a run is watched from outside: metrics, traces, and who is told of its end."""
