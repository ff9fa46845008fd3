"""What holds for every test."""

import signal

# A suite that was started in the background inherits an ignored SIGINT, and would hand it on to the commands that tests
# interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
