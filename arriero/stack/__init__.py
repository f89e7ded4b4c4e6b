"""`arriero up`: Redis, the simulator and the four services as child processes of one terminal."""
