"""Pictures of a case: panels, legends and sweeps, drawn with matplotlib."""
