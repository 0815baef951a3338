"""A first search from Python: submit, wait, look at the candidates, plot the front, export the best network."""

from pathlib import Path

from nas.client import Client

with Client() as client:  # the service at NAS_URL, else one that starts and ends with this block
    job = client.submit(Path(__file__).with_name("digits.yaml"))
    job.wait(raise_on_failure=True)  # a progress bar
    table = job.candidates().to_pandas()
    columns = ["number", "accuracy@supernet", "params@cost", "on_front"]
    print(table.sort_values("accuracy@supernet", ascending=False)[columns].head().to_string(index=False))
    job.figure("pareto").write_html("front.html", include_plotlyjs=True)
    print("saved", job.best().export("best.onnx", overwrite=True), "and front.html")
