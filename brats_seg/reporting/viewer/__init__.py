"""The viewer: a page in the browser that shows cases in three dimensions, and the server that feeds it."""
