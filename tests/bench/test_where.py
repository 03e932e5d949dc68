"""Where the time goes, from what perf says."""

from bench.where import OTHER, spent_in

SCRIPT = """\
   4242
   ffffffff81e rename_lookup ([kernel.kallsyms])
   ffffffff81e __x64_sys_rename ([kernel.kallsyms])
        7f0123 __GI_rename (/usr/lib/x86_64-linux-gnu/libc.so.6)

   4242/4250
   ffffffff81e finish_task_switch ([kernel.kallsyms])
   ffffffff81e __x64_sys_futex ([kernel.kallsyms])

   4243
   ffffffff81e tcp_v4_rcv ([kernel.kallsyms])
   ffffffff81e handle_softirqs ([kernel.kallsyms])

   4242
        55d0aa _PyEval_EvalFrameDefault (/usr/bin/python3.11)
        55d0ab [unknown] ([unknown])

   4242
        7f0124 __memmove (/usr/lib/x86_64-linux-gnu/libc.so.6)
"""


def test_each_sample_is_for_python_for_a_library_or_for_the_system_call_that_it_is_in() -> None:
    assert list(spent_in(SCRIPT)) == [
        (4242, "rename"),
        (4242, "futex"),
        (4243, OTHER),
        (4242, "Python"),
        (4242, "libraries"),
    ]
