"""Where test items come from, and what an item is: hub data sets, rows of files, columns by name, ids by content."""
