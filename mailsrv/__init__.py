"""mailsrv: a mail server to start and forget.

Imports go down only: `model` < `protocol | store | host` < `work` < `daemon | cli`.
"""

VERSION = "0.1.0"
