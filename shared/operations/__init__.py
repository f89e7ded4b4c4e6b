"""Changes to models: orders for them, as every service may place and follow them. The managers carry them out."""
