"""The report: evaluation folders to one HTML page that needs nothing beside it."""
