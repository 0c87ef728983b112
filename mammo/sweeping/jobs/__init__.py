"""Run composed trainings as processes on this machine or as jobs of Slurm, and summarise their scores."""
