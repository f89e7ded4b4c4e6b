"""What is known of every model of every service: told by the servers, guessed where they are silent, kept in Redis."""
