module forest-serving/pause

go 1.24.0
