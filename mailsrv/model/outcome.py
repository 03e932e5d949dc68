"""What becomes of a recipient at another host, where no reply of that host says it: replies of our own making.

Of the permanent ones the other host, or the DNS, has told enough to know that the message can never be taken; all else
may pass.
"""

from typing import Final

from mailsrv.model.reply import Reply

MAX_TEXT: Final = 400  # characters of a host's words that are kept

# 4yz: it may work later.
CONNECTION_LOST: Final = Reply(451, "4.2", "the connection to the next host was lost")
IN_DOUBT: Final = Reply(
    451, "4.2", "the connection was lost behind the final dot: it is sent again, and may come twice"
)
NO_ANSWER: Final = Reply(451, "4.2", "the next host did not answer in time")
NO_CONNECTION: Final = Reply(451, "4.1", "the next host could not be reached")
STALLED: Final = Reply(451, "4.2", "the next host is too slow for what waits for it")
DNS_TROUBLE: Final = Reply(451, "4.3", "the DNS cannot be asked for the next host")
NO_ROUTE: Final = Reply(451, "4.4", "no route leads to the domain")
NOT_SMTP: Final = Reply(451, "5.0", "the next host did not speak SMTP")
TLS_FAILED: Final = Reply(454, "7.5", "TLS with the next host failed")
TLS_NOT_OFFERED: Final = Reply(454, "7.10", "the next host does not offer TLS, which the route asks for")
NOT_BY_POLICY: Final = Reply(454, "7.5", "the policy of the domain does not let the next host be used")
LOGIN_NOT_POSSIBLE: Final = Reply(454, "7.0", "the next host offers no way to log in that may be used")
LOGIN_FAILED: Final = Reply(454, "7.8", "the next host does not take our login")
NOT_SIGNED: Final = Reply(451, "7.5", "the message could not be signed here")
OURS: Final = Reply(451, "3.5", "the domain is one of ours, and its mail is not sent elsewhere")

# 5yz: this host can never take it.
TOO_BIG_THERE: Final = Reply(552, "3.4", "the message exceeds the size limit of the next host")
NO_8BIT_THERE: Final = Reply(554, "6.3", "the message has 8-bit content, which the next host does not take")
NO_UTF8_THERE: Final = Reply(553, "6.7", "an address is not in ASCII, which the next host does not take")
NO_UTF8_HEADER_THERE: Final = Reply(554, "6.9", "the header is in UTF-8, which the next host does not take")
NO_REQUIRETLS_THERE: Final = Reply(550, "7.30", "the message asks for REQUIRETLS, which the next host does not promise")

# 5yz: the DNS has said that there is nobody to take it, or only we ourselves.
NO_SUCH_DOMAIN: Final = Reply(550, "1.2", "there is no such domain")
NULL_MX: Final = Reply(556, "1.10", "the domain says that it takes no mail")
NO_HOST: Final = Reply(550, "4.4", "no host of the domain has an address")
LOOPS: Final = Reply(554, "4.6", "mail for the domain would come back to this server")


def as_reason(answer: Reply) -> Reply:
    """A host's reply in one line, with an enhanced code whether it had one or not."""
    text = " ".join(answer.text.split())
    return Reply(answer.code, answer.subject or "0.0", text[:MAX_TEXT])


def as_temporary(answer: Reply) -> Reply:
    """What a host says of itself, and not of a message: it may say otherwise later."""
    reason = as_reason(answer)
    if reason.is_permanent:
        return Reply(450, reason.subject, f"the next host says {answer.code}: {reason.text}"[:MAX_TEXT])
    return reason
