"""Running stages: what is to do, in which process, under which lock; seeds, arms and trials."""
