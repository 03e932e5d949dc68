"""What mailsrv is, what it needs, and the programs that it installs."""

import re
from pathlib import Path

from setuptools import find_packages, setup

VERSION = re.search(
    r'^VERSION = "(.+)"$', Path(__file__).with_name("mailsrv").joinpath("__init__.py").read_text(), re.M
)

# Each runtime dependency with its reason. Protocols, spool, delivery and healing are our own code.
REQUIRES = [
    "supervisor>=4.3",  # runs the programs; 4.3.0 no longer spins on a closed descriptor
    "watchdog>=7.1",  # file events: delivery starts the moment a file appears
    "psutil>=6.0",  # CPU, memory, descriptors and threads of a process
    "click>=8.1",  # the command line: parsing, prompts, help
    "uvloop>=0.21",  # the event loop of smtp and pop3
    "argon2-cffi>=23.1",  # password hashing (argon2id)
    "scramp>=1.5",  # SCRAM: logging in without sending the password (RFC 5802); we look into its server, as 1.5 has it
    # Makes the self-signed TLS pair, and DKIM's signatures: kept best of all that sign, and already here. dkimpy was
    # last released in 2024, signs RSA in Python, needs PyNaCl as well, and takes 2.3 GB for a text of 50 MB.
    "cryptography>=42",
    "idna>=3.7",  # domains of any script as the DNS knows them (A-labels); 3.7 no longer takes long over hostile ones
    "dnspython>=2.7",  # DNS: MX, addresses, and whether a validating server vouches for an answer
    "rich>=13.7",  # tables of the command line
]

# What `bin/test` adds.
TEST_REQUIRES = [
    "pytest>=8.3",  # the runner
    "pytest-timeout>=2.3",  # a hanging test fails alone, with stacks
    "pytest-xdist>=3.6",  # both cores
    "hypothesis>=6.100",  # properties of the grammar and the spool format
    'atheris>=3.0; python_version < "3.14"',  # coverage-guided fuzzing; has wheels for CPython 3.11 to 3.13
    "dkimpy>=1.1.8",  # another implementation of DKIM, to verify ours
    "PyNaCl>=1.5",  # Ed25519 for dkimpy
    "mypy>=1.11",  # strict types
    "ruff>=0.6",  # lint and format
    "types-psutil",  # types of psutil
    "setuptools>=69",  # setup.py is type-checked and read by the tests
]

PROGRAMS = ["smtpd", "deliverd", "pop3d", "relayd", "healthd"]

setup(
    name="mailsrv",
    version=VERSION[1] if VERSION else None,
    description="A mail server to start and forget: SMTP, local delivery and POP3 under supervisord.",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["mailsrv", "mailsrv.*"]),
    package_data={"mailsrv": ["py.typed"]},
    install_requires=REQUIRES,
    extras_require={"test": TEST_REQUIRES},
    entry_points={
        "console_scripts": [
            "mailsrv = mailsrv.cli.main:main",
            *(f"mailsrv-{name} = mailsrv.daemon.{name}:main" for name in PROGRAMS),
        ]
    },
)
