"""For all tests: hypothesis without deadlines (machines differ) and without a folder of its own (maybe read-only)."""

from hypothesis import HealthCheck, settings

settings.register_profile("mailsrv", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mailsrv")
