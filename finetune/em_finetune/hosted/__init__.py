"""Fine-tunes made by a hosted service: recipe, price, job, checkpoint and model spec."""
