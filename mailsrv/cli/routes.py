"""list, transform, route: distribution lists, address transforms, and what would happen to an address."""

from dataclasses import asdict

import click

from mailsrv.cli.context import (
    NOT_WELL,
    Commands,
    Failed,
    as_json,
    complete_address,
    enter,
    expect_domain_of_ours,
    expect_no_loop,
    print_json,
    print_table,
)
from mailsrv.config import Config
from mailsrv.model.address import Mailbox, parse_mailbox
from mailsrv.store.lines import content_lines, edit_lines, read_text
from mailsrv.store.lists import DistributionList, Lists, change_members, parse_lists, put_list, render_list
from mailsrv.store.transforms import DIRECTIONS, parse_line, parse_transforms
from mailsrv.work import instance
from mailsrv.work.next_hop import explain_next_hops
from mailsrv.work.quota import Gauge, explain_boxes
from mailsrv.work.routing import Directory


@click.group("list", cls=Commands)
def lists() -> None:
    """Distribution lists: members, who may send to them, and who hears of failures."""


@lists.command("add")
@click.argument("address")
@click.argument("members", nargs=-1)
@click.option("--owner", required=True, help="Who hears of failures, and always may send.")
@click.option("--post", default="members", show_default=True, help="anybody, members, addresses, @example.org; commas.")
@click.pass_context
def add_list(ctx: click.Context, address: str, members: tuple[str, ...], owner: str, post: str) -> None:
    """Make the list ADDRESS with these MEMBERS, in place of what it was before."""
    config = enter(ctx)
    mailbox = complete_address(config, address, parse_mailbox)
    expect_domain_of_ours(config, mailbox)
    _lists(config)  # a broken file is told of before it is edited
    goals = tuple(complete_address(config, member, parse_mailbox) for member in members)
    made = DistributionList(mailbox, complete_address(config, owner, parse_mailbox), post, goals, frozenset())
    section = render_list(made)
    parse_lists(config.lists, "\n".join(section))
    expect_no_loop(config, mailbox, goals)
    put_list(config.lists, mailbox, section)
    instance.hand_over(config, config.lists)
    click.echo(f"{mailbox} has {len(goals)} members")


@lists.command("remove")
@click.argument("address")
@click.pass_context
def remove_list(ctx: click.Context, address: str) -> None:
    """Remove the list ADDRESS."""
    config = enter(ctx)
    found = _existing(config, address)
    put_list(config.lists, found.mailbox, None)
    instance.hand_over(config, config.lists)
    click.echo(f"removed {found.mailbox}")


@lists.command("join")
@click.argument("address")
@click.argument("members", nargs=-1, required=True)
@click.pass_context
def join_list(ctx: click.Context, address: str, members: tuple[str, ...]) -> None:
    """Add MEMBERS to the list ADDRESS."""
    config = enter(ctx)
    found = _existing(config, address)
    there = {member.key for member in found.members}
    goals = tuple(complete_address(config, member, parse_mailbox) for member in members)
    new = tuple({goal.key: goal for goal in goals if goal.key not in there}.values())
    expect_no_loop(config, found.mailbox, (*found.members, *new))
    _change(config, found, joining=new)


@lists.command("leave")
@click.argument("address")
@click.argument("members", nargs=-1, required=True)
@click.pass_context
def leave_list(ctx: click.Context, address: str, members: tuple[str, ...]) -> None:
    """Take MEMBERS out of the list ADDRESS."""
    config = enter(ctx)
    found = _existing(config, address)
    goals = tuple(complete_address(config, member, parse_mailbox) for member in members)
    there = {member.key for member in found.members}
    if strangers := [str(goal) for goal in goals if goal.key not in there]:
        raise Failed(f"not in the list {found.mailbox}: {', '.join(strangers)}")
    _change(config, found, leaving=goals)


def _change(
    config: Config, found: DistributionList, joining: tuple[Mailbox, ...] = (), leaving: tuple[Mailbox, ...] = ()
) -> None:
    change_members(config.lists, found.mailbox, list(joining), list(leaving))
    instance.hand_over(config, config.lists)
    click.echo(f"{found.mailbox} has {len(_lists(config)[found.mailbox.key].members)} members")


@lists.command("list")
@as_json
@click.pass_context
def list_lists(ctx: click.Context, is_json: bool) -> None:
    """List the lists."""
    found = _lists(enter(ctx)).values()
    if is_json:
        print_json([_facts(each) for each in found])
        return
    rows = [[str(each.mailbox), str(each.owner), each.post, ", ".join(map(str, each.members))] for each in found]
    print_table(["LIST", "OWNER", "TAKES MAIL FROM", "MEMBERS"], rows)


def _facts(found: DistributionList) -> dict[str, object]:
    members = [str(member) for member in found.members]
    return {"list": str(found.mailbox), "owner": str(found.owner), "post": found.post, "members": members}


def _lists(config: Config) -> Lists:
    return parse_lists(config.lists, read_text(config.lists))


def _existing(config: Config, address: str) -> DistributionList:
    mailbox = complete_address(config, address, parse_mailbox)
    found = _lists(config).get(mailbox.key)
    if found is None:
        raise Failed(f"there is no list {mailbox}")
    return found


@click.group(cls=Commands)
def transform() -> None:
    """Address transforms: pattern to pattern, tried in order."""


@transform.command("add")
@click.argument("direction", type=click.Choice(DIRECTIONS))
@click.argument("pattern")
@click.argument("result")
@click.pass_context
def add_transform(ctx: click.Context, direction: str, pattern: str, result: str) -> None:
    """Add a transform of PATTERN to RESULT behind the others.

    inbound is of recipients, outbound of senders in mail for elsewhere. A * stands for anything, as in
    '*@old.example' '*@example.org'.
    """
    config = enter(ctx)
    line = f"{direction} {pattern} -> {result}"
    parse_line(line)
    parse_transforms(config.transforms, read_text(config.transforms))
    edit_lines(config.transforms, lambda lines: [*lines, line])
    instance.hand_over(config, config.transforms)
    click.echo(f"added {line}")


@transform.command("remove")
@click.argument("number", type=click.IntRange(min=1))
@click.pass_context
def remove_transform(ctx: click.Context, number: int) -> None:
    """Remove the transform of this NUMBER in `mailsrv transform list`."""
    config = enter(ctx)
    places = _transforms(config)
    if number > len(places):
        raise Failed(f"there are {len(places)} transforms")
    place, line = places[number - 1]
    edit_lines(config.transforms, lambda lines: [each for at, each in enumerate(lines, 1) if at != place])
    instance.hand_over(config, config.transforms)
    click.echo(f"removed {line}")


@transform.command("list")
@as_json
@click.pass_context
def list_transforms(ctx: click.Context, is_json: bool) -> None:
    """List the transforms, in the order in which they are tried."""
    found = [parse_line(line) for _, line in _transforms(enter(ctx))]
    if is_json:
        print_json([{"direction": way, "pattern": each.pattern, "result": each.result} for way, each in found])
        return
    rows = [[str(number), way, each.pattern, each.result] for number, (way, each) in enumerate(found, 1)]
    print_table(["NUMBER", "DIRECTION", "PATTERN", "RESULT"], rows)


def _transforms(config: Config) -> list[tuple[int, str]]:
    """The lines that are transforms, each with its number in the file."""
    text = read_text(config.transforms)
    parse_transforms(config.transforms, text)
    return list(content_lines(text))


@click.command()
@click.argument("address")
@click.option("--from", "sender", help="The sender, <> for none; else no list asks for it.")
@as_json
@click.pass_context
def route(ctx: click.Context, address: str, sender: str | None, is_json: bool) -> None:
    """Say what would happen to mail for ADDRESS, rule by rule.

    Ends with 1 where it, or a part of it, leads nowhere.
    """
    config = enter(ctx)
    reverse_path = complete_address(config, sender, parse_mailbox) if sender and sender != "<>" else None
    mailbox = complete_address(config, address, parse_mailbox)
    directory = Directory(config)
    for mistake in directory.mistakes():
        click.echo(f"Warning: {mistake}", err=True)
    found, notes = directory.explain(mailbox, reverse_path, judges_posting=sender is not None)
    notes += explain_boxes(directory, Gauge(directory, config.mail), found)
    notes += explain_next_hops(config, [each.mailbox for each in found.remote.values()])
    ends = {
        "delivered": [str(each.account.mailbox) for each in found.local.values()],
        "sent_on": [str(each.mailbox) for each in found.remote.values()],
        "refused": str(found.refusal or ""),
        "reported": [f"{each.mailbox}: {each.reason}, to {each.list.owner}" for each in found.lost],
    }
    if is_json:
        print_json({"address": str(mailbox), "rules": [asdict(note) for note in notes], **ends})
    else:
        print_table(
            ["ADDRESS", "RULE", ""], [["  " * each.depth + each.address, each.rule, each.result] for each in notes]
        )
    ctx.exit(NOT_WELL if found.refusal or found.lost else 0)


COMMANDS = (lists, transform, route)
