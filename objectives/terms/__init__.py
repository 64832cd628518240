"""What is minimised: terms, how groups become one number, and penalties."""
