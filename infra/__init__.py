"""What runs around the services: deployment files, and a stand-in for Ollama."""
