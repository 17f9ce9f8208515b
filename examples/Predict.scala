// Score rows from Scala with Java's HTTP client.
// MLOPS_SERVING_URL is the service's address, MLOPS_SERVING_TOKEN its bearer token.
import java.net.URI
import java.net.http.{HttpClient, HttpRequest, HttpResponse}
import java.time.Duration

object Predict {
  private val url = sys.env.getOrElse("MLOPS_SERVING_URL", "http://127.0.0.1:8080")
  // By default Java first tries to upgrade to HTTP/2, which costs a round trip.
  private val client = HttpClient
    .newBuilder()
    .version(HttpClient.Version.HTTP_1_1)
    .connectTimeout(Duration.ofSeconds(5))
    .build()

  private def request(path: String): HttpRequest.Builder = {
    val builder = HttpRequest.newBuilder(URI.create(url + path)).timeout(Duration.ofSeconds(30))
    sys.env.get("MLOPS_SERVING_TOKEN").foreach(token => builder.header("authorization", s"Bearer $token"))
    builder.header("content-type", "application/json")
  }

  /** The response's body; throws with the service's error message. */
  private def body(request: HttpRequest): String = {
    val response = client.send(request, HttpResponse.BodyHandlers.ofString())
    if (response.statusCode() >= 400) throw new RuntimeException(s"${response.statusCode()}: ${response.body()}")
    response.body()
  }

  def main(arguments: Array[String]): Unit = {
    // A row of the training data: an object without nested ones.
    val card = body(request("/model").GET().build())
    val row = """"example":(\{[^{}]*\})""".r.findFirstMatchIn(card).get.group(1)
    val rows = HttpRequest.BodyPublishers.ofString(s"[$row,$row]")
    println(body(request("/predict").POST(rows).build()))
  }
}
