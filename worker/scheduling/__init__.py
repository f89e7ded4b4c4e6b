"""Which jobs a worker may start now, and on which host: priorities and fairness are the queue's, models are ours."""
