"""The commands ``vexfs`` and ``vexctl``: one noun a module, joined in :mod:`vexfs.cli.main`.

A command module defines ``register(subparsers)``, which adds its parsers and sets ``run`` on each of them::

    def register(subparsers):
        parser = subparsers.add_parser("umount", help="unmount a volume", epilog="Example: vexfs umount /mnt/notes")
        parser.add_argument("mountpoint")
        parser.set_defaults(run=umount)

    def umount(args):
        ...
        output.emit(args, {"mountpoint": args.mountpoint}, f"unmounted {args.mountpoint}")

``run(args)`` returns an exit status, or None for 0.  It raises what went wrong; :func:`vexfs.cli.main.run` turns that
into one line and an exit status.  ``--json`` is added to every command and answered by :func:`vexfs.cli.output.emit`.
The module is named in :data:`vexfs.cli.main.COMMANDS`, and is imported only when its command is asked for.
"""
