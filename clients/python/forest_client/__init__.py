"""Call Forest Serving: a service config and forest-predict."""
