"""Tables, pictures and progress: everything that is shown."""
