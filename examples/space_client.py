"""The page's endpoint by gradio_client, where it is served: a Space, or this machine.

python examples/space_client.py owner/reader scan.png
python examples/space_client.py http://127.0.0.1:7860 scan.png
"""

import sys

from gradio_client import Client, handle_file

space, image = sys.argv[1:]
# Empty texts: the ensemble's own operating point, and the lesion box that it finds.
found = Client(space, verbose=False).predict(handle_file(image), "", "", api_name="/predict")
print(f"{found['prediction']} {found['probability']:.4f}{' not sure, refer' if found['uncertain'] else ''}")
