"""python -m tests.reliability.asking ADDRESS TIMES — asks for health as a probe does, and prints each answer's seconds.

A process of its own: in the clients' process it would wait for their interpreter's lock, and call that the service's time.
"""

import http.client
import json
import sys
import time

PAUSE, WAIT = 0.1, 20.0


def seconds_of_health(address: str) -> float:
    """Until /healthz has answered, on a connection of its own.

    Raises AssertionError where the answer is not 200.
    """
    began = time.perf_counter()
    link = http.client.HTTPConnection(address.removeprefix("http://"), timeout=WAIT)
    link.request("GET", "/healthz")
    answer = link.getresponse()
    answer.read()
    link.close()
    assert answer.status == 200, answer.status
    return time.perf_counter() - began


def main() -> None:
    """Ask so often, with a pause after each answer."""
    address, times, spent = sys.argv[1], int(sys.argv[2]), []
    for _ in range(times):
        spent.append(seconds_of_health(address))
        time.sleep(PAUSE)
    print(json.dumps(spent))


if __name__ == "__main__":
    main()
