"""Jobs: composed trainings go in; processes on this machine or jobs of Slurm come out."""
