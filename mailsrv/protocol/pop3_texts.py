"""What POP3 says to people, in each language that LANG (RFC 6856 §3) offers.

Programs read the response codes; they stand in `pop3_events.Refusal`, and are the same in every language.
"""

from dataclasses import dataclass
from typing import Final

from mailsrv.model.language import Language


@dataclass(frozen=True, slots=True)
class Text:
    """One text in all languages; `{}` stands for what is put in."""

    en: str
    de: str
    fr: str

    def said_in(self, language: Language, *words: object) -> str:
        """The text in a language."""
        match language:
            case Language.DEFAULT | Language.ENGLISH:  # what most clients are answered in comes first
                text = self.en
            case Language.GERMAN:
                text = self.de
            case Language.FRENCH:
                text = self.fr
        return text.format(*words) if words else text


NOTHING: Final = Text("", "", "")

# --- +OK -------------------------------------------------------------------------------------------

GREETING: Final = Text("{} POP3 mailsrv", "{} POP3 mailsrv", "{} POP3 mailsrv")
SEND_PASSWORD: Final = Text("send the password", "bitte das Passwort senden", "envoyez le mot de passe")
MESSAGES: Final = Text("{} messages", "{} Nachrichten", "{} messages")
OCTETS: Final = Text("{} octets", "{} Oktette", "{} octets")
TOP_FOLLOWS: Final = Text("top of the message", "Anfang der Nachricht", "début du message")
MESSAGES_FOLLOW: Final = Text("messages follow", "die Nachrichten folgen", "voici les messages")
UNIQUE_IDS_FOLLOW: Final = Text(
    "unique ids follow", "die eindeutigen Kennungen folgen", "voici les identifiants uniques"
)
CAPABILITIES_FOLLOW: Final = Text("capabilities follow", "die Fähigkeiten folgen", "voici les capacités")
MECHANISMS_FOLLOW: Final = Text("mechanisms follow", "die Verfahren folgen", "voici les mécanismes")
LANGUAGES_FOLLOW: Final = Text("languages follow", "die Sprachen folgen", "voici les langues")
LANGUAGE_CHANGED: Final = Text("this is English", "ab jetzt auf Deutsch", "désormais en français")
DELETED: Final = Text("deleted at QUIT", "wird bei QUIT gelöscht", "sera supprimé à QUIT")
UTF8_BEGINS: Final = Text("UTF-8 it is", "ab jetzt UTF-8", "désormais en UTF-8")
TLS_BEGINS: Final = Text("begin with TLS now", "jetzt TLS beginnen", "commencez TLS maintenant")
GOODBYE: Final = Text("goodbye", "auf Wiedersehen", "au revoir")

# --- -ERR for what a client got wrong --------------------------------------------------------------

WRONG_STATE: Final = Text(
    "{} is not for the {} state", "{} gehört nicht in den Zustand {}", "{} n'est pas permis dans l'état {}"
)
UNKNOWN_COMMAND: Final = Text("unknown command", "unbekannter Befehl", "commande inconnue")
SYNTAX: Final = Text("the syntax is {}", "die Syntax ist {}", "la syntaxe est {}")
BAD_LINE: Final = Text(
    "lines end with CRLF and are at most {} octets long",
    "Zeilen enden mit CRLF und haben höchstens {} Oktette",
    "les lignes se terminent par CRLF et ont au plus {} octets",
)
NOT_UTF8: Final = Text("expected UTF-8", "UTF-8 erwartet", "UTF-8 attendu")
NOT_A_NUMBER: Final = Text("expected a number", "eine Zahl erwartet", "un nombre est attendu")
NO_SUCH_MESSAGE: Final = Text("there is no message {}", "es gibt keine Nachricht {}", "il n'y a pas de message {}")
IS_DELETED: Final = Text("message {} is deleted", "Nachricht {} ist gelöscht", "le message {} est supprimé")
USER_FIRST: Final = Text("USER comes before PASS", "USER kommt vor PASS", "USER vient avant PASS")
INSECURE: Final = Text(
    "a password is taken over TLS only",
    "Passwörter werden nur über TLS angenommen",
    "les mots de passe ne sont acceptés que par TLS",
)
TLS_ALREADY: Final = Text("TLS is there already", "TLS besteht schon", "TLS est déjà établi")
NO_MECHANISM: Final = Text("this mechanism is not offered", "kein solches Verfahren", "ce mécanisme n'est pas offert")
NOT_BASE64: Final = Text("expected base64", "base64 erwartet", "base64 attendu")
CANCELLED: Final = Text("cancelled", "abgebrochen", "annulé")
NO_SUCH_LANGUAGE: Final = Text(
    "unknown language, LANG lists those there are",
    "unbekannte Sprache, LANG nennt die vorhandenen",
    "langue inconnue, LANG donne la liste",
)

# --- -ERR for what the world refuses; their response codes stand in Refusal ------------------------

BAD_LOGIN: Final = Text("wrong user or password", "Benutzer oder Passwort falsch", "utilisateur ou mot de passe erroné")
MALFORMED: Final = Text(
    "this is not what the mechanism asks for",
    "das entspricht nicht dem Verfahren",
    "ce n'est pas ce que demande le mécanisme",
)
IN_USE: Final = Text(
    "another session has this maildrop open",
    "eine andere Sitzung benutzt dieses Postfach",
    "une autre session utilise cette boîte",
)
LOGIN_DELAY: Final = Text(
    "wait a while between logins",
    "bitte zwischen Anmeldungen etwas warten",
    "attendez un moment entre deux connexions",
)
NOT_NOW: Final = Text(
    "a fault on our side, try again later",
    "ein Fehler bei uns, bitte später wieder versuchen",
    "une erreur de notre côté, réessayez plus tard",
)
NEEDS_A_PERSON: Final = Text(
    "this maildrop is out of order, its administrator has to look at it",
    "dieses Postfach ist gestört, die Verwaltung muss danach sehen",
    "cette boîte est en panne, son administrateur doit intervenir",
)
MESSAGE_GONE: Final = Text(
    "this message cannot be read now",
    "diese Nachricht ist jetzt nicht lesbar",
    "ce message est illisible pour le moment",
)
UNREADABLE: Final = Text(
    "this message cannot be read, the administrator has to look at it",
    "diese Nachricht ist nicht lesbar, die Verwaltung muss danach sehen",
    "ce message est illisible, l'administrateur doit intervenir",
)
NEEDS_UTF8: Final = Text(
    "this message needs the command UTF8",
    "diese Nachricht braucht den Befehl UTF8",
    "ce message exige la commande UTF8",
)
NOT_REMOVED: Final = Text(
    "some deleted messages were not removed",
    "einige gelöschte Nachrichten wurden nicht entfernt",
    "certains messages supprimés n'ont pas été retirés",
)
NOT_REMOVABLE: Final = Text(
    "some deleted messages cannot be removed, the administrator has to look at it",
    "einige gelöschte Nachrichten sind nicht zu entfernen, die Verwaltung muss danach sehen",
    "certains messages supprimés ne peuvent être retirés, l'administrateur doit intervenir",
)
SHUTTING_DOWN: Final = Text(
    "the service is stopping, try again soon",
    "der Dienst hält an, bitte bald wieder versuchen",
    "le service s'arrête, réessayez bientôt",
)
BANNED: Final = Text(
    "too many failed logins from your address, try again later",
    "zu viele falsche Anmeldungen von Ihrer Adresse, bitte später wieder versuchen",
    "trop de connexions refusées depuis votre adresse, réessayez plus tard",
)
TOO_MANY_CONNECTIONS: Final = Text(
    "too many connections, try again later",
    "zu viele Verbindungen, bitte später wieder versuchen",
    "trop de connexions, réessayez plus tard",
)
TOO_MANY_ERRORS: Final = Text("too many errors", "zu viele Fehler", "trop d'erreurs")
NO_TLS: Final = Text(
    "TLS is not available now", "TLS ist jetzt nicht verfügbar", "TLS n'est pas disponible pour le moment"
)
