// Ask the service from Scala, with Java's own client.
// MLOPS_SERVING_URL says where it is, MLOPS_SERVING_TOKEN its token.
import java.net.URI
import java.net.http.{HttpClient, HttpRequest, HttpResponse}
import java.time.Duration

object Predict {
  private val url = sys.env.getOrElse("MLOPS_SERVING_URL", "http://127.0.0.1:8080")
  // Unless told otherwise, Java first asks whether HTTP/2 is spoken.
  private val client = HttpClient
    .newBuilder()
    .version(HttpClient.Version.HTTP_1_1)
    .connectTimeout(Duration.ofSeconds(5))
    .build()

  private def request(path: String): HttpRequest.Builder = {
    val made = HttpRequest.newBuilder(URI.create(url + path)).timeout(Duration.ofSeconds(30))
    sys.env.get("MLOPS_SERVING_TOKEN").foreach(token => made.header("authorization", s"Bearer $token"))
    made.header("content-type", "application/json")
  }

  /** The answer's body; what a refusal says is the error's text. */
  private def answer(request: HttpRequest): String = {
    val found = client.send(request, HttpResponse.BodyHandlers.ofString())
    if (found.statusCode() >= 400) throw new RuntimeException(s"${found.statusCode()}: ${found.body()}")
    found.body()
  }

  def main(arguments: Array[String]): Unit = {
    // A real row of the training data, which every bundle carries: an object without another in it.
    val card = answer(request("/model").GET().build())
    val row = """"example":(\{[^{}]*\})""".r.findFirstMatchIn(card).get.group(1)
    val body = HttpRequest.BodyPublishers.ofString(s"[$row,$row]")
    println(answer(request("/predict").POST(body).build()))
  }
}
