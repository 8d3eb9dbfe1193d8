"""What the demo is made of: processes and figures on one side, pure rendering on the other, a terminal at the end."""
