"""The page's endpoint by gradio_client, where it is served: a Space, or this machine.

python examples/space_client.py owner/reader scan.png
python examples/space_client.py http://127.0.0.1:7860 scan.png
"""

import sys

from gradio_client import Client, handle_file

space, image = sys.argv[1:]
# More may be asked for by name: operating_point, roi (four numbers), light, heatmap, lesion_type (true or false);
# `view_api()` tells what each is.
result = Client(space, verbose=False).predict(handle_file(image), api_name="/predict")
print(f"{result['probability']:.4f} {result['verdict']}")
